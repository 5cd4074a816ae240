"""One image, one answer: text, boxes and clicks."""
