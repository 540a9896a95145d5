"""What a command asks for, and doing it: tables of networks, views of them, tuning."""
