"""`make proof`: every figure that the project claims and no test holds, measured when it is printed."""
