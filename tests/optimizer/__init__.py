"""What users of torch.optim see: options, state, checkpoints, errors, threads, lifetimes."""
