"""
Requests, responses, events and webhooks, as frozen values.

The classes follow the contract's `rest-api.md`. Money is `decimal.Decimal`,
exactly as printed. Fields that the vendor leaves out, leaves blank or sets to
`null` are `None`; a missing field never causes an error. Unknown fields are in
the `raw` of each value.

Account numbers, names, addresses and links show in no repr.
"""

from typing import TYPE_CHECKING

from bankconnect_async._lazy import lazy_names


if TYPE_CHECKING:
    from . import arrow as arrow
    from . import core_schemas as core_schemas
    from . import suggestions as suggestions
    from . import values as values
    from ._rows import Rows
    from .accounts import (
        Account,
        ExpenseCategory,
        Fraud,
        FraudFinding,
        Identity,
        RecurringSet,
        RecurringSets,
        Report,
        SalaryTransaction,
        StatementProgress,
        StoredPdf,
        StoredPdfs,
        Transaction,
    )
    from .arrow import arrow_schema
    from .entities import (
        AccountPredictors,
        Accounts,
        AccountScore,
        Bank,
        BankCatalogue,
        BankHealth,
        Entity,
        EntityPage,
        EntityResponse,
        ExcelReport,
        ExpenseCategories,
        Identities,
        MonthlyAnalyses,
        MonthlyAnalysis,
        Predictors,
        RecurringTransactions,
        Reports,
        SalaryTransactions,
        Scores,
        TopAmount,
        TopCreditsDebits,
        TopFive,
        Transactions,
    )
    from .events import (
        ErrorEvent,
        ErrorType,
        Event,
        EventName,
        ExitEvent,
        InfoEvent,
        SuccessEvent,
        UnknownEvent,
    )
    from .insights import (
        COMPLETED,
        AccountDetails,
        AccountInsights,
        Insights,
        NewSession,
        ProcessingRequest,
        RecurringConsent,
        RecurringConsents,
        SessionAccount,
        SessionIdentities,
        SessionProgress,
        SessionReports,
        SessionStatus,
        StatementStages,
        StatementStats,
        TopMonth,
        TopTransactions,
        UploadState,
        UploadStatus,
    )
    from .parameter_groups import Consent, Metadata
    from .sessions import UNSET, Session, SessionRequest, Value
    from .uploads import (
        EntityUpload,
        SessionUpload,
    )
    from .values import json_default
    from .webhooks import (
        DateRange,
        EnrichmentWebhook,
        ExpiryWebhook,
        ExtractionWebhook,
        MissedWebhooks,
        UnknownWebhook,
        UploadWebhook,
        Webhook,
        WebhookAccount,
        WebhookName,
        WebhookStatement,
    )
else:
    # Creating a session needs few of them, and making classes takes time.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "_rows": "Rows",
            "accounts": (
                "Account ExpenseCategory Fraud FraudFinding Identity "
                "RecurringSet RecurringSets Report SalaryTransaction "
                "StatementProgress StoredPdf StoredPdfs Transaction"
            ),
            "entities": (
                "AccountPredictors AccountScore Accounts Bank BankCatalogue "
                "BankHealth Entity EntityResponse EntityPage ExcelReport "
                "ExpenseCategories Identities MonthlyAnalyses MonthlyAnalysis "
                "Predictors RecurringTransactions Reports SalaryTransactions "
                "Scores TopAmount TopCreditsDebits TopFive Transactions"
            ),
            "events": (
                "ErrorEvent ErrorType Event EventName ExitEvent InfoEvent "
                "SuccessEvent UnknownEvent"
            ),
            "insights": (
                "AccountDetails AccountInsights COMPLETED Insights NewSession "
                "ProcessingRequest RecurringConsent RecurringConsents "
                "SessionAccount SessionIdentities SessionProgress "
                "SessionReports SessionStatus StatementStages StatementStats "
                "TopMonth TopTransactions UploadState UploadStatus"
            ),
            "parameter_groups": "Consent Metadata",
            "sessions": "Session SessionRequest UNSET Value",
            "uploads": "EntityUpload SessionUpload",
            "webhooks": (
                "DateRange EnrichmentWebhook ExpiryWebhook ExtractionWebhook "
                "MissedWebhooks UnknownWebhook UploadWebhook Webhook "
                "WebhookAccount WebhookName WebhookStatement"
            ),
            "arrow": "arrow_schema",
            "values": "json_default",
        },
        submodules=("arrow", "core_schemas", "suggestions", "values"),
    )


__all__ = [
    "COMPLETED",
    "UNSET",
    "Account",
    "AccountDetails",
    "AccountInsights",
    "AccountPredictors",
    "AccountScore",
    "Accounts",
    "Bank",
    "BankCatalogue",
    "BankHealth",
    "Consent",
    "DateRange",
    "EnrichmentWebhook",
    "Entity",
    "EntityPage",
    "EntityResponse",
    "EntityUpload",
    "ErrorEvent",
    "ErrorType",
    "Event",
    "EventName",
    "ExcelReport",
    "ExitEvent",
    "ExpenseCategories",
    "ExpenseCategory",
    "ExpiryWebhook",
    "ExtractionWebhook",
    "Fraud",
    "FraudFinding",
    "Identities",
    "Identity",
    "InfoEvent",
    "Insights",
    "Metadata",
    "MissedWebhooks",
    "MonthlyAnalyses",
    "MonthlyAnalysis",
    "NewSession",
    "Predictors",
    "ProcessingRequest",
    "RecurringConsent",
    "RecurringConsents",
    "RecurringSet",
    "RecurringSets",
    "RecurringTransactions",
    "Report",
    "Reports",
    "Rows",
    "SalaryTransaction",
    "SalaryTransactions",
    "Scores",
    "Session",
    "SessionAccount",
    "SessionIdentities",
    "SessionProgress",
    "SessionReports",
    "SessionRequest",
    "SessionStatus",
    "SessionUpload",
    "StatementProgress",
    "StatementStages",
    "StatementStats",
    "StoredPdf",
    "StoredPdfs",
    "SuccessEvent",
    "TopAmount",
    "TopCreditsDebits",
    "TopFive",
    "TopMonth",
    "TopTransactions",
    "Transaction",
    "Transactions",
    "UnknownEvent",
    "UnknownWebhook",
    "UploadState",
    "UploadStatus",
    "UploadWebhook",
    "Value",
    "Webhook",
    "WebhookAccount",
    "WebhookName",
    "WebhookStatement",
    "arrow_schema",
    "json_default",
]
