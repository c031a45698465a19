"""What turns gradients into steps: schedules, parameter groups and Ranger."""
