from hypothesis import settings

settings.register_profile("unhurried", deadline=None)  # a busy machine must not fail tests
settings.load_profile("unhurried")
