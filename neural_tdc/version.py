"""The version of the library, in the one place that setup.cfg and config.json read."""

VERSION = "0.1.0"
