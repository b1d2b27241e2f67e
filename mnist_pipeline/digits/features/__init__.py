"""Features: transformers of pixels, and work on many rows in batches."""
