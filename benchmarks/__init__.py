"""
What a created session costs, beside code that does less or does it worse.
"""
