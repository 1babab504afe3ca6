"""Convert Unicode symbols, plain text and LaTeX style commands to plain LaTeX."""

from __future__ import annotations

import re
import unicodedata

COMMANDS = (
    r"text|textbf|textit|textrm|textsf|texttt|textsc|textup|textnormal|emph|mbox|hbox|mathrm|mathbf|mathit|mathsf|"
    r"mathtt|mathcal|math(?:bin|op|ord|rel)|boldsymbol|bm|underline|underbrace|ensuremath|operatorname\*?"
)
"""Commands for the style of their argument, or for text."""

_NAMES = (
    r"arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|csc|ln|log|exp|gcd|lcm|max|det|"
    r"(?:sec|min)(?=\s*\}?\s*[({\\^_\w])"  # 90 sec and 5\text{ min} are units: a function has an argument
)
_ENVIRONMENTS = r"aligned|align\*?|gathered|equation\*?|split"

_SYMBOLS = {
    ord(symbol): latex
    for symbols, latex in {
        "−–—‒‐‑": "-", "×✕✖": r"\times ", "·⋅∙•∗": r"\cdot ", "÷∕": "/", "±": r"\pm ", "∓": r"\mp ", "≤⩽≦": r"\le ",
        "≥⩾≧": r"\ge ", "≠": r"\neq ", "≈≃≅": r"\approx ", "≡": r"\equiv ", "∞": r"\infty ", "∪": r"\cup ",
        "∩": r"\cap ", "∈": r"\in ", "⊂": r"\subset ", "⊆": r"\subseteq ", "∑": r"\sum", "∏": r"\prod", "∫": r"\int",
        "∂": r"\partial ", "→": r"\to ", "¬": r"\neg ", "∧": r"\land ", "∨": r"\lor ", "⊥": r"\perp ",
        "∥": r"\parallel ", "△": r"\Delta ", "′": "'", "∛": r"\sqrt[3]√", "∜": r"\sqrt[4]√", "、": ", ",
        "∅": r"\emptyset ", "∖": r"\setminus ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}",
        "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}", "°º˚": r"^\circ ", "⟨〈": r"\langle ", "⟩〉": r"\rangle ",
        "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "∠": r"\angle ", "∣": "|",
        "…": r"\ldots ", "∶": ":", "‖": r"\|", "€£¥₹₩₽¢": "", "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff": "",
    }.items()
    for symbol in symbols
}  # fmt: skip
_SYMBOLS |= {
    ord(letter): rf"\{name if letter.islower() else name.capitalize()} "
    for name, letters in {
        "alpha": "α", "beta": "β", "gamma": "γΓ", "delta": "δΔ", "epsilon": "εϵ", "zeta": "ζ", "eta": "η",
        "theta": "θΘ", "kappa": "κ", "lambda": "λΛ", "mu": "μµ", "nu": "ν", "xi": "ξ", "pi": "πΠ", "rho": "ρ",
        "sigma": "σΣ", "tau": "τ", "phi": "φϕΦ", "chi": "χ", "psi": "ψΨ", "omega": "ωΩ",
    }.items()
    for letter in letters
}  # fmt: skip
_RAISED = re.compile(r"[⁰¹²³⁴-⁹ⁱⁿ⁺⁻⁽⁾ᴬ-ᵡˣʸ]+")
_VULGAR = re.compile(r"[¼-¾⅐-⅞]")
_OVERLINED = re.compile("(?:\\d[\u0304\u0305])+")
_LOWERED = re.compile(r"[₀-₉ₐ-ₜᵢⱼ]+")

_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<=[RZQC]\})\s*(?:-|\\)\s*\\?\{([^{}\\]*)\\?\}", r"\\setminus \\{\1\\}"),
        (r"<sup>\s*(\d+)\s*</sup>\s*[/⁄]\s*<sub>\s*(\d+)\s*</sub>", r"\\frac{\1}{\2}"),
        (r"<sup>([^<>]*)</sup>", r"^{\1}"),
        (r"<sub>([^<>]*)</sub>", r"_{\1}"),
        # layout
        (r"\\(?:textcolor|color|colorbox|fcolorbox\s*\{\w+\})\s*(?:\[\w*\])?\s*\{[^{}]*\}", ""),
        (r"\\(?:[hv]space|[hv]?phantom|tag|label)\*?\s*\{[^{}]*\}", ""),
        (rf"\\(?:begin|end)\s*\{{(?:{_ENVIRONMENTS})\}}", ""),
        (r"\\(?:left|right|middle)(?![A-Za-z])\s*\.?|\\[bB]igg?[lrm]?(?![A-Za-z])", ""),
        (r"\\(?:(?:display|text|script)style|[lL]arge|LARGE|[hH]uge|normalsize|small|tiny|(?:math)?strut|limits|bf|rm|it)"
         r"(?![A-Za-z])", ""),
        (r"\\(?:checkmark|blacksquare|square|Box|qed)(?![A-Za-z])\s*$", ""),
        (r",?\s*\\q?quad\s*(?=\w\s*=)", ", "),
        (r"\\q?quad(?![A-Za-z])|(?<!\\)\\[ ;:,]|~", " "),
        (r"\\(?:pounds|euro|yen|texteuro|cents?)(?![A-Za-z])|(?<!\\)\\[!()\[\]]|\\\$|\$|(?<=\\\\)\[\d+\s?[a-z]+\]", ""),
        # synonyms
        (r"(\\[A-Za-z]+)(?=\d)", r"\1 "),
        (r"\\[lc]?dots(?![A-Za-z])|\.\.\.", r"\\ldots "),
        (r"\+/-", r"\\pm "),
        (r"(^|[\s=(,])\^\{(\w)\}\s*√", r"\1\\sqrt[\2]√"),
        (r"(?:^|\{\}|(?<=[\s=]))[_^]\{?(\w+)\}?\s*C_\{?(\w+)\}?", r"\\binom{\1}{\2}"),
        (r"(?<![A-Za-z\\])C\(\s*(\d+|[nkm])\s*,\s*(\d+|[nkm])\s*\)", r"\\binom{\1}{\2}"),
        (r"^\]([^\[\]()]*)\[$", r"(\1)"),
        (r"^\[([^\[\]()]*)\[$", r"[\1)"),
        (r"^\]([^\[\]()]*)\]$", r"(\1]"),
        (r"\\(max|min)\s*\\\{([^{}]*)\\\}", r"\\\1(\2)"),
        (r"(?<=\S)\s*[,;]\s*[a-z]\s*\\in\s*\\mathbb\{Z\}$", ""),
        (r"\\triangle(?![A-Za-z])", r"\\Delta "),
        (r"\\(vec|hat|bar|overline|overrightarrow)\s+(\w)", r"\\\1{\2}"),
        (r"^(\d+)\s*(?:to|\\text\s*\{\s*to\s*\})\s*(\d+)$", r"\1:\2"),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\var(epsilon|phi|rho|sigma|theta)(?![A-Za-z])", r"\\\1"),
        (r"\\mathbb\s*([A-Z])", r"\\mathbb{\1}"),
        (r"\\backslash(?![A-Za-z])", r"\\setminus "),
        (r"\\(sin|cos|tan)\s*\^\s*\{?-1\}?", r"\\arc\1 "),
        (r"\\lg(?![A-Za-z])", r"\\log_{10}"),
        (r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
        (r"\\leq(?:slant|q)?(?![A-Za-z])|<=", r"\\le "),
        (r"\\geq(?:slant|q)?(?![A-Za-z])|>=", r"\\ge "),
        (r"\\ne(?![A-Za-z])|!=", r"\\neq "),
        (r"\\lbrace(?![A-Za-z])", r"\\{"),
        (r"\\rbrace(?![A-Za-z])", r"\\}"),
        (r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}", r"\\emptyset "),
        (r"\{:\}|\\colon(?![A-Za-z])", ":"),
        (r"\\degree(?![A-Za-z])|(?<=\d)\s*∘|\^\s*(?:\\circ(?![A-Za-z])|\{\s*\\circ\s*\})(?:\s*[CF]\b)?", r"^\\circ "),
        (rf"\\(?:{COMMANDS})\s*\{{\s*({_NAMES})\s*\}}", r"\\\1 "),
        (r"\\begin\s*\{(?:array|smallmatrix|[bB]?matrix)\}(?:\s*\{[clr| ]*\})?", r"\\begin{pmatrix}"),
        (r"\\end\s*\{(?:array|smallmatrix|[bB]?matrix)\}", r"\\end{pmatrix}"),
        (r"[(\[]\s*(\\begin\{pmatrix\}.*\\end\{pmatrix\})\s*[)\]]", r"\1"),
        # plain text
        (rf"(?<![\\A-Za-z])({_NAMES}|pi|infty|theta|alpha|beta)(?![A-Za-z{{}}])", r"\\\1 "),
        (r"\\Pi(?![A-Za-z])|(?<![\\A-Za-z])Pi(?![A-Za-z{}])", r"\\pi "),
        (r"(?<![\\A-Za-z])infinity(?![A-Za-z])", r"\\infty "),
        *[(r"(?:√|(?<![\\A-Za-z])sqrt)\s*\(([^()]*)\)", r"√{\1}")] * 2,  # the inner root first
        (r"(?:√|(?<![\\A-Za-z])sqrt)\s*(-?\d+(?:\.\d+)?|[A-Za-z]|\\frac\{\d+\}\{\d+\}|\\[a-z]+)", r"√{\1}"),
        (r"\]√", "]"),
        (r"√|(?<![\\A-Za-z])sqrt(?=\s*\{)", r"\\sqrt"),
        (r"\*\*", "^"),
        (r"\^\s*\(([^()]*)\)|\^\s*([-+]?\d{2,}|[-+]\w)", r"^{\1\2}"),
        (r"(?i:\s*per\s?cent(?:age)?\b)|\\text\s*\{\s*(?:\\?%|per\s?cent)\s*\}", "%"),
        (r"(?<![\w}])(?:\\text\s*\{\s*)?(?:minus|negative)\b(?:\s*\}|\s)\s*(?=[\d\\])", "-"),
        # arguments without braces
        (r"\\(frac|binom)(?:\s*(\d|\\pi(?![A-Za-z]))|\s+([A-Za-z]))", r"\\\1{\2\3}"),
        (r"\\(frac|binom)\s*(\{(?:[^{}]|\{[^{}]*\})*\})\s*(\w|\\pi(?![A-Za-z]))", r"\\\1\2{\3}"),
        (r"\\sqrt\s*(\[\w+\]|)\s*([\dA-Za-z])", r"\\sqrt\1{\2}"),
        (r"(\d+|[A-Za-z])!\s*\^", r"(\1!)^"),
        (r"\{?([\w+-]+)\s*\\choose\s*([\w+-]+)\}?", r"\\binom{\1}{\2}"),
        # the parser reads \sin x\cdot y as the sine of xy
        (r"(\\(?:(?:arc)?(?:sin|cos|tan)|cot|sec|csc|ln|log)(?![A-Za-z])(?:[_^](?:\w|\{[^{}]*\}))*)\s*(?![\s(])"
         r"((?:\\(?!cdot|times)[A-Za-z]++|\{(?:[^{}]|\{[^{}]*\})*\}|[\w\s^])++)(?=\\cdot|\\times|\*)", r"\1(\2)"),
        (r"\{(\d+)⁄(\d+)\}|(\d+)⁄(\d+)", r"\\frac{\1\3}{\2\4}"),
        (r"⁄", "/"),
        (r"(\d)\s+(\d+)/(\d+)(?![\d/])", r"\1\\frac{\2}{\3}"),
    )
]  # fmt: skip


def plain_latex(text: str) -> str:
    """The text in plain LaTeX. \\text{} and similar commands stay: they separate a unit from a product of variables."""
    text = text.translate(_SYMBOLS)
    text = _RAISED.sub(lambda run: f"^{{{unicodedata.normalize('NFKC', run[0]).replace('−', '-')}}}", text)
    text = _LOWERED.sub(lambda run: f"_{{{unicodedata.normalize('NFKC', run[0])}}}", text)
    text = _OVERLINED.sub(lambda run: rf"\overline{{{run[0][::2]}}}", text)
    text = _VULGAR.sub(
        lambda sign: "\\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", sign[0]).split("⁄")), text
    )
    text = unicodedata.normalize("NFKC", text)  # full width, the letters of mathematics
    text = re.sub(r"\\\\(?=[A-Za-z]{2})", r"\\", text)  # \\\\frac, escaped twice
    text = re.sub(r"\\begin\{cases\}([^&]*?)\\end\{cases\}", r"\1", text)  # a system's solution
    if "matrix" not in text and "array" not in text and "cases" not in text:
        text = re.sub(r",?\s*\\\\\s*(?=\S)(?!\\end)", ", ", text.rstrip("\\ ")).replace("&", "")
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text.strip()
