"""HTTP for whoever knows another registry's API: listening, who asks, limits, plain answers.

What is particular to one API is in `registry/consul`, `registry/eureka` and `registry/page`.
"""
