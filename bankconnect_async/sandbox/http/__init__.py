"""
HTTP plumbing of the sandbox.
"""
