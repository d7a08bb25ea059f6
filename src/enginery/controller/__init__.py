"""The controller: the program in the middle that schedules tasks and forwards bytes."""
