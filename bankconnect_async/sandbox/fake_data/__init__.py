"""
Fake accounts, transactions and documents.
"""
