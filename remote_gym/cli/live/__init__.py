"""The user's terminal: what ``remote-gym top`` shows, from what servers tell to lines of text."""
