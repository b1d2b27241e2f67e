"""Generated digits, for data larger than memory."""
