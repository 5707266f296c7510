"""Steps of DTensors, in processes joined by gloo."""
