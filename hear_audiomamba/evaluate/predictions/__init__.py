"""HEAR's predictions with the protocol of its runner, all models of a task trained side by side."""
