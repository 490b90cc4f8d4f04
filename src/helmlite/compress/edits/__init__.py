"""Changes of a network's structure that more than one technique makes; each can be redone from its JSON."""
