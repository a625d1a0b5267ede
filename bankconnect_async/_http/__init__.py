"""
One HTTP operation: pool, deadline, delivery class, retries.
"""
