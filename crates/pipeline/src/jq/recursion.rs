//! Definitions that call themselves.
//!
//! Their depth would depend on the data, and a stack that overflows takes the whole process with it. Names are bound
//! lexically, so a definition can only reach itself from within its own body.

use jaq_core::load::lex::{StrPart, Tok, Token};

type Tokens<'t, 'a> = &'t [Token<&'a str>];

/// The name of a definition that calls itself, if there is one. A definition inside its body of the same name and as
/// many arguments is taken for such a call.
pub(super) fn recursive<'a>(tokens: Tokens<'_, 'a>) -> Option<&'a str> {
    for (place, token) in tokens.iter().enumerate() {
        let found = match &token.1 {
            Tok::Word if token.0 == "def" => definition(tokens.get(place + 1..).unwrap_or_default()),
            tok => inner(tok).find_map(recursive),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The name of the definition that begins behind its `def`, if it calls itself.
fn definition<'a>(tokens: Tokens<'_, 'a>) -> Option<&'a str> {
    let (name, rest) = tokens.split_first()?;
    let arity = arity(rest);
    let start = rest.iter().position(|token| token.0 == ":")? + 1;
    let body = rest.get(start..)?;
    let body = body.get(..body_length(body)).unwrap_or(body);
    calls(body, name.0, arity, false).then_some(name.0)
}

/// How many tokens stand before the `;` that closes a body. Each definition inside it takes one of its own.
fn body_length(tokens: Tokens<'_, '_>) -> usize {
    let mut open = 1_usize;
    for (place, token) in tokens.iter().enumerate() {
        match token.0 {
            "def" => open += 1,
            ";" => open -= 1,
            _ => {}
        }
        if open == 0 {
            return place;
        }
    }
    tokens.len()
}

/// How many arguments stand in the parentheses, if any, that begin here.
fn arity(tokens: Tokens<'_, '_>) -> usize {
    let Some(Token(text, Tok::Block(arguments))) = tokens.first() else { return 0 };
    if !text.starts_with('(') {
        return 0;
    }
    let mut definitions = 0_usize;
    let mut arity = 1;
    for argument in arguments {
        match argument.0 {
            "def" => definitions += 1,
            ";" if definitions > 0 => definitions -= 1,
            ";" => arity += 1,
            _ => {}
        }
    }
    arity
}

/// Whether `name` is called with so many arguments. A word that is the key of an object is no call.
fn calls(tokens: Tokens<'_, '_>, name: &str, wanted: usize, object: bool) -> bool {
    tokens.iter().enumerate().any(|(place, token)| {
        let before = place.checked_sub(1).and_then(|before| tokens.get(before));
        let key = object && before.is_none_or(|before| before.0 == ",");
        match &token.1 {
            Tok::Word | Tok::Fmt => {
                !key && token.0 == name && arity(tokens.get(place + 1..).unwrap_or_default()) == wanted
            }
            Tok::Block(inside) => calls(inside, name, wanted, token.0.starts_with('{')),
            tok => inner(tok).any(|inside| calls(inside, name, wanted, false)),
        }
    })
}

/// The token lists inside a block or an interpolated string.
fn inner<'t, 'a>(tok: &'t Tok<&'a str>) -> impl Iterator<Item = Tokens<'t, 'a>> {
    let (block, parts) = match tok {
        Tok::Block(tokens) => (Some(tokens.as_slice()), [].as_slice()),
        Tok::Str(parts) => (None, parts.as_slice()),
        _ => (None, [].as_slice()),
    };
    let terms = parts.iter().filter_map(|part| match part {
        StrPart::Term(Token(_, Tok::Block(tokens))) => Some(tokens.as_slice()),
        _ => None,
    });
    block.into_iter().chain(terms)
}
