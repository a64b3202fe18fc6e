"""Files on disk: decoded audio, and what every room needs to write and check them; settings of the process."""
