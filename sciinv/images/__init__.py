"""Sets of images on disk: read from what people have, inspected, split by subject."""
