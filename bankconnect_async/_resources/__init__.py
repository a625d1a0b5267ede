"""
The vendor's endpoints, one module for each resource.
"""
