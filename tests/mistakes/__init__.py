"""What people type and have by mistake: every command ends with one line and exit code 2."""
