def step_ratios(a,b): pass
def training(a,b): pass
