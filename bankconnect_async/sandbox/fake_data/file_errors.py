"""
Errors of PDFs that cannot be read.
"""

from typing import Final


#: The command that installs pypdf, which reads and encrypts any PDF.
NEEDS_EXTRA: Final = "pip install 'bankconnect-async[sandbox]'"


class UnreadableError(Exception):
    """
    The file is not a PDF, or it is damaged.
    """


class WrongPasswordError(Exception):
    """
    The file is encrypted, and the password is wrong or missing.
    """
