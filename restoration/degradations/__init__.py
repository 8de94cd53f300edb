"""What was done to a picture: by known linear operators, blindly, by a camera; and what can be estimated of
it.
"""
