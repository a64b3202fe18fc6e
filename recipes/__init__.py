"""How the bundled weights were made: corpora, teachers and training, outside the wheel."""
