"""Server process: the edge. What brings the frames of sessions here and takes their answers away."""
