"""What is registered, as other registries' APIs tell it: by name and by node, each with the index
of its last change, with waiting for the next one and with answers that are made once.
"""
