"""Draw the landscape of the Stackelberg objective."""
