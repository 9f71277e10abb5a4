"""Names that would be markup, end a text, or be a line of their own, if they were not quoted."""

from typing import Any

from tsignals import Signal

EVIL = 'a"b</script><img src=x onerror="document.title=1">\\&#;`'
evil = Signal([EVIL], name=EVIL)


def hear(**named: Any) -> None: ...


hear.__qualname__ = EVIL
evil.connect(hear, sender=EVIL, dispatch_uid=EVIL)
evil.connect(hear, dispatch_uid="again")
