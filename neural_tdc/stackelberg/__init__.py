"""The Stackelberg objective: best responses, curvature, supervised learning with split rates."""
