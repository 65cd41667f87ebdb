"""Who calls, and what may they do: decisions as pure tables, the checks behind two ports, and the
interceptor that every call goes through before a handler sees it.
"""
