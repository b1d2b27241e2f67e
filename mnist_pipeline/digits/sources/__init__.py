"""Where the digits come from: download, archive formats, decoding."""
