"""
The customer's journey and its page.
"""
