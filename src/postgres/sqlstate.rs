//! SQLSTATEs: every one that this code raises or decides by, by the name PostgreSQL has for it
//! (<https://www.postgresql.org/docs/current/errcodes-appendix.html>), and our own of class TQ.

use std::fmt;

/// Five characters, digits and capitals: what kind of error it is. A handler may raise any.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl SqlState {
            $($(#[$doc])* pub const $name: SqlState = SqlState(*$code);)*
        }
    };
}

states! {
    SUCCESSFUL_COMPLETION = b"00000";
    WARNING = b"01000";
    FEATURE_NOT_SUPPORTED = b"0A000";
    CARDINALITY_VIOLATION = b"21000";
    NULL_VALUE_NOT_ALLOWED = b"22004";
    DATETIME_FIELD_OVERFLOW = b"22008";
    CHARACTER_NOT_IN_REPERTOIRE = b"22021";
    INVALID_PARAMETER_VALUE = b"22023";
    UNIQUE_VIOLATION = b"23505";
    ACTIVE_SQL_TRANSACTION = b"25001";
    DEPENDENT_OBJECTS_STILL_EXIST = b"2BP01";
    INVALID_TRANSACTION_TERMINATION = b"2D000";
    TRIGGER_PROTOCOL_VIOLATED = b"39P01";
    INVALID_SCHEMA_NAME = b"3F000";
    SERIALIZATION_FAILURE = b"40001";
    DEADLOCK_DETECTED = b"40P01";
    INSUFFICIENT_PRIVILEGE = b"42501";
    SYNTAX_ERROR = b"42601";
    INVALID_NAME = b"42602";
    UNDEFINED_OBJECT = b"42704";
    DUPLICATE_OBJECT = b"42710";
    AMBIGUOUS_FUNCTION = b"42725";
    WRONG_OBJECT_TYPE = b"42809";
    UNDEFINED_FUNCTION = b"42883";
    RESERVED_NAME = b"42939";
    UNDEFINED_TABLE = b"42P01";
    UNDEFINED_PARAMETER = b"42P02";
    DUPLICATE_TABLE = b"42P07";
    INVALID_OBJECT_DEFINITION = b"42P17";
    INSUFFICIENT_RESOURCES = b"53000";
    DISK_FULL = b"53100";
    OUT_OF_MEMORY = b"53200";
    CONFIGURATION_LIMIT_EXCEEDED = b"53400";
    PROGRAM_LIMIT_EXCEEDED = b"54000";
    STATEMENT_TOO_COMPLEX = b"54001";
    TOO_MANY_ARGUMENTS = b"54023";
    OBJECT_NOT_IN_PREREQUISITE_STATE = b"55000";
    LOCK_NOT_AVAILABLE = b"55P03";
    QUERY_CANCELED = b"57014";
    ADMIN_SHUTDOWN = b"57P01";
    IO_ERROR = b"58030";
    NO_DATA_FOUND = b"P0002";
    INTERNAL_ERROR = b"XX000";
    /// A handler asks for another attempt: tq_retry.
    RETRY = b"TQ001";
    /// A handler's task was waited for, and failed.
    TASK_FAILED = b"TQ002";
    /// A handler gives up: tq_fail.
    GIVE_UP = b"TQ003";
    /// What a task waits for will never be.
    NEVER = b"TQ004";
    /// A listener said no.
    VETO = b"TQ005";
    /// A newcomer of the same unique_key does the work.
    SUPERSEDED = b"TQ006";
    /// A worker's claim is gone: its task isn't that worker's any more.
    CLAIM_LOST = b"TQ007";
    /// A worker says that its attempt has failed, and no SQLSTATE.
    WORKER = b"TQ008";
    /// The row that was run isn't as it was any more.
    FENCED = b"TQF00";
    /// It isn't there any more.
    GONE = b"TQF03";
    /// What an attempt was picked by holds no more.
    OUTDATED = b"TQF05";
}

impl SqlState {
    /// As PostgreSQL packs it into an integer: six bits a character.
    pub fn pack(self) -> i32 {
        self.0.iter().enumerate().fold(0, |code, (i, b)| code | i32::from((b - b'0') & 0x3F) << (6 * i))
    }
    /// None: it isn't five digits and capitals.
    pub fn parse(text: &str) -> Option<SqlState> {
        let code: [u8; 5] = text.as_bytes().try_into().ok()?;
        code.iter().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase()).then_some(SqlState(code))
    }
    pub fn unpack(code: i32) -> SqlState {
        SqlState(std::array::from_fn(|i| (code >> (6 * i) & 0x3F) as u8 + b'0'))
    }
    pub fn as_str(&self) -> &str {
        // Only what is packed gets here: '0' to 'o'.
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
    /// The first two characters.
    pub fn class(&self) -> &str {
        &self.as_str()[..2]
    }
    /// Somebody was in the way: the same again may go well at once.
    pub fn is_contention(self) -> bool {
        matches!(self, SqlState::LOCK_NOT_AVAILABLE | SqlState::DEADLOCK_DETECTED | SqlState::SERIALIZATION_FAILURE)
    }
    /// Nothing is wrong with what was asked for: it may go well later. Contention; want of memory, disk or connections; an
    /// operator's doing; what others have just written.
    pub fn may_pass(self) -> bool {
        self.is_contention() || self == SqlState::UNIQUE_VIOLATION || ["40", "53", "57", "58"].contains(&self.class())
    }
}

impl Default for SqlState {
    fn default() -> SqlState {
        SqlState::SUCCESSFUL_COMPLETION
    }
}
impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl serde::Serialize for SqlState {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}
