"""
Endpoints that serve statement data.
"""
