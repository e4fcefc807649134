MODEL = "image_similarity"
"""What is trained, and evaluated, where no model is named."""
