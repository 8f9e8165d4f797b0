"""Values of actions, Q: state and action as one observation, from which V's rules learn."""
