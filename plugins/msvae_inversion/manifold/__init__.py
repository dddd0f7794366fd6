"""Charts of images: what they are, how they are fitted, and how one descends and samples on them."""
