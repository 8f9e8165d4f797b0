"""The settings of policy evaluation: fields, presets, and which of them have an effect."""
