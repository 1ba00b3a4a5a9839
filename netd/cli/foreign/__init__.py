"""Networks of other engines, read from their own documents: what netd would make of them."""
