"""The store of finished runs, and what is made of it: tables and pictures."""
