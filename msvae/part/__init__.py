"""Parts: finite elements at the scale of a part, whose material varies from element to element; needs msvae[part]."""
