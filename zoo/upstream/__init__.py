"""All about PyTorch originals: names, state dicts, reference folders, comparisons."""
