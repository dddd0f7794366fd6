"""What is on disk: structures, images, fields, evaluations; written whole or not at all, read with care."""
