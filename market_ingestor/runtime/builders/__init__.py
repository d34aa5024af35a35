"""How each role is made, a module for each: a process loads only what its roles need."""
