def language_of(tenant):
    return getattr(tenant, "language", "")
