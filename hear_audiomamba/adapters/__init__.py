"""At home in other tools: each module here needs the library it is for, as an extra of its name."""
