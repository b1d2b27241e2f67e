"""Image files of single digits: decoding, normalizing, classifying."""
