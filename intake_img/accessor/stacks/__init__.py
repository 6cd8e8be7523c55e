"""Image stacks for CAREamics."""
