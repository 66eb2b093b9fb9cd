"""By which words one tells what a sentence is: a rule, a preference, a decision, a cause. English and Chinese; patterns only.

Precision goes before recall: a sentence that is missed can still be found by `recall`, one that is taken wrongly is taught.
"""

import re

_VERBS = (
    "use|run|commit|push|add|write|call|put|edit|touch|change|ask|include|create|delete|remove|skip|mock|check|do|make|keep|"
    "prefer|respond|answer|test|format|lint|read|start|build|deploy|merge|squash|rebase|install|import|log|return|generate|name"
)
RULE = re.compile(
    rf"(?:^|[,;:] |\b(?:and|but|so|please|you|we|agents?|must|should|to) )(?:always|never|don(?:'|’)t ever|do not ever) (?:{_VERBS})\b"
    r"|\b(?:from now on|going forward|from here on|as a rule of thumb|in (?:the )?future,)\b"
    r"|(?:从现在起|从今以后|今后|一律|永远不要|永远别|千万不要|千万别|务必|禁止|不允许)|(?:^|[，,。；;])\s*(?:请|那么?)?以后(?:都|请|不|别|用|要|所有|的)"
    r"|(?:总是|始终|每次都)(?:要|用|使用|先|应该)",
    re.IGNORECASE,
)
"""What holds beyond the task at hand."""
PREFERENCE = re.compile(
    r"\b(?:I|we)(?:(?:'|’)d)? (?:would )?(?:really |strongly |generally |usually |much )?prefer\b(?! (?:if|that) you (?:ask|wait))"
    r"|\bmy preference\b|^prefer \S+.{0,80}\b(?:over|to|instead of|rather than)\b|\bI(?:'|’)?d rather (?:use|have|keep|see)\b"
    r"|我(?:更|比较)?(?:喜欢|偏好|倾向于?)(?:用|使用)?|优先(?:使用|用|考虑)",
    re.IGNORECASE,
)
_SETTLED = (
    r"\b(?:(?:we|I|they|the team|user)(?:(?:'|’)ve| have| had)? decided (?:to|on|that|against)|(?:the )?decision(?: is| was|:)|settled on|agreed (?:on|to|that)|"
    r"(?:we|I)(?:(?:'|’)ve| have)? (?:chose|opted for|switched (?:from|to|over to)|went with|picked)|chosen over|was chosen|"
    r"kept \S+.{0,60}\b(?:rather than|instead of))\b"
)
_PLANNED = (
    r"(?:^|[,;:.] |\b(?:so|then|ok|okay|and|yes|no|but) )(?:we(?:'|’)ll|we will|we should|let(?:'|’)?s) "
    r"(?:use|go with|keep using|keep|stick with|stay with|switch to|drop|call (?:it|this|them|ours?)|name (?:it|this|them|ours?)) (?!something|whatever|it\b|that\b|this\b)"
    r"|^go with \S"
)
DECIDED_BY_USER = re.compile(
    f"{_SETTLED}|{_PLANNED}|(?:我们|我)?决定(?:了|用|使用|采用|不|把|将)|(?:我们|咱们)?(?:改用|换成|就用|采用|选用)",
    re.IGNORECASE,
)
DECIDED_BY_USER_RETOLD = re.compile(
    r"\b[Uu]ser (?:decided|chose|opted|asked to always|prefers|wants us to always)\b|用户(?:决定|选择|偏好)"
)
"""In an agent's words."""
AT_IT = re.compile(
    r"\b(?:I(?:'|’)m|I am|I(?:'|’)ll|I will|going to|continuing|waiting|let me|next,? I|now I)\b", re.IGNORECASE
)
"""An agent that tells what it is doing just now."""
_MADE = (
    r"(?:^|\bI )(?:changed|replaced|switched|kept|pinned|moved|renamed|made|set|removed|dropped|split)\b.{8,}\b(?:instead of|rather than|because|so that|to avoid)\b"
    r"|\bnow (?:uses?|requires?|returns?|stores?|reads?|goes|runs?|writes?|calls?|falls back)\b.{8,}\b(?:instead of|rather than|because|so that)\b"
)
DECIDED_BY_AGENT = re.compile(
    f"{_SETTLED}|{_MADE}|(?:我|我们)?决定(?:了|用|使用|采用|不|把|将)|最终(?:选择|采用|决定)了?", re.IGNORECASE
)
"""An agent's plans are not decisions: only what it says was settled."""
REASON = re.compile(
    r"\b(?:because|since|so that|due to|in order to|to avoid|otherwise|rather than|instead of|over the|as (?:it|this|that|they)|which (?:lets|means|avoids|keeps))\b|因为|由于|以便|为了|避免|而不是",
    re.IGNORECASE,
)
ROOT_CAUSE = re.compile(
    r"\broot cause\b(?:s)?(?: here)?(?: is| was|:)|\bthe (?:actual |real |underlying )?(?:issue|problem|bug|failure|error|crash|culprit) (?:is|was) (?:that|caused by|due to|because)\b"
    r"|\b(?:was|were|is|are) (?:failing|broken|crashing|caused)(?: \w+)? (?:because|by|due to)\b|\bfail(?:s|ed) because\b"
    r"|根本原因(?:是|在于|：)|根因(?:是|在于|：)|问题(?:出)?(?:在于|是因为|的原因是)|(?:失败|报错)(?:是因为|的原因是)",
    re.IGNORECASE,
)
WORKAROUND = re.compile(
    r"\b(?:as a |the |a )?work-?around(?: is| was|:| for \S+.{0,40} is)|\bworked around\b|临时(?:方案|解决办法)(?:是|：)|变通(?:办法|方案)(?:是|：)",
    re.IGNORECASE,
)
HEDGED = re.compile(
    r"\b(?:might|may|maybe|could be|could have|probably|likely|perhaps|possibly|seems?|appears?|suspect|hypothes\w+|if the|whether|let me|need to (?:find|check|see|investigate)|I think|not sure|unclear|unlikely|would be)\b|可能|也许|大概|似乎|应该是|猜测|怀疑",
    re.IGNORECASE,
)
OPEN = re.compile(
    r"\b(?:still (?:to do|open|missing|fails?|failing|broken|pending|needs?)|not yet (?:implemented|done|wired|covered|tested|supported|handled|migrated)|(?:^|\W)todo\b|left to do|unresolved|remains? (?:to be|open|unresolved)|blocked (?:on|by))\b"
    r"|(?:还没有?|尚未|仍未)(?:实现|完成|处理|测试|解决|支持)|待(?:办|解决|完成|处理)|遗留问题",
    re.IGNORECASE,
)
DONE = re.compile(r"\b(?:fixed|resolved|solved|works now|now passes|no longer)\b|已(?:修复|解决)", re.IGNORECASE)
