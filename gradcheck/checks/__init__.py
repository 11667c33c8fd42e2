"""What is checked: each check takes an implementation and a case and returns evidence."""
