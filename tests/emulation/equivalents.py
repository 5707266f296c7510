def reason(f, b, a):
    return ""
